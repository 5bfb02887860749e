"""The world: data, physics, observations, KPIs, and CityLearn itself."""
