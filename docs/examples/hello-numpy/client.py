"""What every site runs."""

import sys

import numpy as np
from model import load_part, predict, train

import flpoc.client as flare

flare.init()
images, labels, test_images, test_labels = load_part(flare.get_site_name(), sites=int(sys.argv[1]))
while flare.is_running():
    model = flare.receive()
    accuracy = float((predict(model.params, test_images).argmax(axis=1) == test_labels).mean())
    if flare.is_evaluate():
        flare.send(flare.FLModel(metrics={"accuracy": accuracy}))
        continue
    steps = train(model.params, images, labels, np.random.default_rng(flare.get_seed()))
    meta = {"NUM_STEPS_CURRENT_ROUND": steps}
    flare.send(flare.FLModel(params=model.params, metrics={"accuracy": accuracy}, meta=meta))
