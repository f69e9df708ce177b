"""What is learnt by: SimCLR, and MoCo v2."""
