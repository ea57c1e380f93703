"""What every site runs: a patched trainer receives and sends by itself."""

import torch
from model import LitNet
from pytorch_lightning import Trainer
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import flpoc.client.lightning as flare

flare.init()
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
mine = torch.arange(len(images)) % 2 == int(flare.get_site_name()[-1]) % 2  # half of them are this site's
test, train = torch.arange(len(images)) % 5 == 0, torch.arange(len(images)) % 5 > 0
train_loader = DataLoader(TensorDataset(images[mine & train], labels[mine & train]), batch_size=10, shuffle=True)
test_loader = DataLoader(TensorDataset(images[mine & test], labels[mine & test]), batch_size=100)

net = LitNet()
trainer = Trainer(max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False)
flare.patch(trainer)
while flare.is_running():
    model = flare.receive()
    print(f"round {model.current_round} at {flare.get_site_name()}")
    trainer.validate(net, test_loader)
    trainer.fit(net, train_loader)
