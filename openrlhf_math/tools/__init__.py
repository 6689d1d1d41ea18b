"""Python as a tool: finding the code a model wants to run, and running it in isolation."""
