"""What is learnt by: SimCLR, MoCo v2, SimSiam, BYOL, CLIP."""
