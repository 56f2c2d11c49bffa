"""One file a command. A task is a config, a function from config to result, and a `TASK`."""

from __future__ import annotations

# Command → its line in `mae --help`. The module is imported when the command runs.
TASKS = {
    "pretrain": "Pre-trains a masked autoencoder on a folder of unlabelled pictures.",
    "reconstruct": "Draws what a pre-trained network rebuilds of pictures it sees a part of.",
    "check": "Scans a folder of pictures and says what is usable, what is not, and why.",
    "probe": "Measures an encoder on labelled pictures: k-NN, linear and attentive probes, beside "
    "untrained.",
    "knn": "Measures an encoder by the votes of nearest pictures; trains nothing.",
    "finetune": "Turns a pre-trained encoder into a classifier of labelled folders.",
    "predict": "Names the class of every picture of a folder, with its probability.",
    "demo": "Runs the main job on photographs that come with scikit-image: some minutes.",
}
