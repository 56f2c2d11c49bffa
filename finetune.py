"""Fine-tunes an encoder into a classifier: `mae finetune` as a script, with the same settings."""

from maekit.cli import script

if __name__ == "__main__":
    script("finetune")
