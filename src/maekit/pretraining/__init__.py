"""What `mae pretrain` is made of: settings, choices, data, objective, estimates, run folder."""
