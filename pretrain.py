"""Pre-trains a masked autoencoder: `mae pretrain` as a script, with the same settings."""

from maekit.cli import script

if __name__ == "__main__":
    script("pretrain")
