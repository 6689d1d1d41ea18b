"""What Ray raises when an actor that was asked is gone, or not there yet again."""

import ray

LOST = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)
