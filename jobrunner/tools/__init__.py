"""Job types as tools of agents; each module is loaded by who uses it, since some need extras."""
