"""Reinforcement fine-tuning: rewards, advantages, loss, trainer and the loop around them. Plain torch, no Ray."""
