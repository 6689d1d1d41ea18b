"""Solving over HTTP, in OpenAI's form, so that a client without support for votes gets the winning answer.

`schema` is what goes over the wire, `plan` makes a request into work, `app` the endpoints over any solver, `remote` the
solver in the Ray actor, `deployment` the app in Ray Serve.
"""
