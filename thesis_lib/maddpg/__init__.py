"""Who learns: Cooperative MADDPG."""
