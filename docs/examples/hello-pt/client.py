"""What every site runs: train the received model on its own digits, and send it back."""

import torch
from model import Net
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import flpoc.client as flare
from flpoc.client.tracking import SummaryWriter

flare.init()
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
mine = torch.arange(len(images)) % 2 == int(flare.get_site_name()[-1]) % 2  # half of them are this site's
test, train = torch.arange(len(images)) % 5 == 0, torch.arange(len(images)) % 5 > 0
loader = DataLoader(TensorDataset(images[mine & train], labels[mine & train]), batch_size=10, shuffle=True)
net, writer = Net(), SummaryWriter()

while flare.is_running():
    model = flare.receive()
    net.load_state_dict(model.params)
    accuracy = (net(images[mine & test]).argmax(dim=1) == labels[mine & test]).float().mean().item()
    if flare.is_evaluate():
        flare.send(flare.FLModel(metrics={"accuracy": accuracy}))
        continue
    torch.manual_seed(flare.get_seed())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for batch in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
    writer.add_scalar("train_loss", loss.item(), global_step=model.current_round)
    meta = {"NUM_STEPS_CURRENT_ROUND": len(loader)}
    flare.send(flare.FLModel(params=net.state_dict(), metrics={"accuracy": accuracy}, meta=meta))
