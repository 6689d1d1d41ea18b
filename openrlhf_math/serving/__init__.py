"""Solving over HTTP, in OpenAI's form, so that a client that knows nothing of votes gets the answer that won.

`schema` is what goes over the wire, `plan` makes a request into work, `app` the endpoints over any solver, `remote` the
solver in the Ray actor, `deployment` the app in Ray Serve.
"""
