"""The autopilot: images, a limit and some hours become a plan, and the plan a network to deploy."""
