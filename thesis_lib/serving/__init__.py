"""Who uses it: the trained policy as a service, without torch and without CityLearn."""
