"""What a trained run can do better at the time of evaluation, without another training."""
