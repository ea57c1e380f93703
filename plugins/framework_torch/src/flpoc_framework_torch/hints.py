"""What to do about errors that PyTorch raises."""

from __future__ import annotations

import re
from typing import Final

_OTHER_MODEL: Final = """
the received model is not the script's: compare the sizes and names above. A job starts from its initial model, or from
what the first site sends: after a change of the model, make that anew, too
"""
_ARRAYS: Final = """
the script receives NumPy arrays: say `framework = pytorch` in the job, or turn them, torch.from_numpy(...)
"""
_MEMORY: Final = """
take smaller batches or a smaller model; other jobs may be on the same graphics card: let the job ask for one of its own
(`gpus = 1`)
"""
_SAVED_ON_A_CARD: Final = """
the file was saved on a graphics card: torch.load(FILE, map_location="cpu", weights_only=True)
"""
_ONLY_WEIGHTS: Final = """
save the state dict alone, torch.save(model.state_dict(), FILE), and load that
"""
_DEVICES: Final = """
bring the model and each batch to one device with .to(device); load_state_dict() brings received parameters there
"""
_NO_CARD: Final = """
use the CPU here: torch.device("cuda" if torch.cuda.is_available() else "cpu"); a job gets graphics cards with
`gpus = 1`
"""
_WORKERS: Final = """
the workers of the DataLoader lack memory, in a container that of /dev/shm: num_workers=0, or more of it
"""
_AS_THEY_ARE: Final = """
send the tensors as they are: params=model.state_dict()
"""

#: By what stands in the message of an error; the first that is found counts.
_HINTS: Final = {
    r"received <class 'numpy.ndarray'>": _ARRAYS,
    r"loading state_dict for": _OTHER_MODEL,
    r"out of memory": _MEMORY,
    r"deserialize object on a CUDA device": _SAVED_ON_A_CARD,
    r"Weights only load failed": _ONLY_WEIGHTS,
    r"Expected all tensors to be on the same device|Input type .* and weight type .* should be the same": _DEVICES,
    r"Found no NVIDIA driver|not compiled with CUDA|No CUDA GPUs are available": _NO_CARD,
    r"DataLoader worker .* (killed|exited)|unable to (open|mmap|allocate) shared memory": _WORKERS,
    r"requires grad.*numpy\(\)|numpy\(\) on Tensor that requires grad": _AS_THEY_ARE,
    r"cuda(:\d+)? (device type )?tensor to numpy": _AS_THEY_ARE,
}


def hint_for(error: BaseException) -> str | None:
    """Say what to do about an error of PyTorch, or None; the module of its type, or its text, tells whose it is."""
    is_torchs = type(error).__module__.partition(".")[0] in ("torch", "_pickle", "pickle")
    if not is_torchs and not isinstance(error, (RuntimeError, TypeError, AssertionError)):
        return None
    text = _text(error)
    found = next((hint for pattern, hint in _HINTS.items() if re.search(pattern, text, re.IGNORECASE)), "")
    return " ".join(found.split()) or None


def _text(error: BaseException) -> str:
    try:
        return str(error)[:20_000]
    except Exception:  # noqa: BLE001 - the text of a foreign error may fail
        return ""
