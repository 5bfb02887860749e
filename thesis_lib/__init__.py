"""Cooperative multi-agent deep reinforcement learning for the energy flexibility of communities."""
