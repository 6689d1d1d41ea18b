"""Solving over HTTP, in OpenAI's form, so that a client without support for votes gets the winning answer.

`protocol` has what goes over the wire, `plan` makes work of a request, `app` has the endpoints over any solver,
`deployment` the app in Ray Serve over a Ray actor, `here` the app in this process.
"""
