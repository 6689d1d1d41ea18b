"""Which problems a batch gets: what is known of each, and the order that follows from it."""
