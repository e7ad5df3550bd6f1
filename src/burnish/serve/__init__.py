"""Serve: tuned models over HTTP, in the shapes that clients of hosted services send and expect.

Enters: models by name, and requests. Leaves: answers, streamed or whole, and errors in the envelope that those clients read. `app` puts the
routes together behind `guard`; `engine` makes the answers, all rows of all requests in one flight of `sampling`.
"""
