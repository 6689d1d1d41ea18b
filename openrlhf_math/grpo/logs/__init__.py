"""What a step leaves to look at: metrics, gauges, the line in the terminal."""
