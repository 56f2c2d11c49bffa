"""What `mae finetune` is made of."""
