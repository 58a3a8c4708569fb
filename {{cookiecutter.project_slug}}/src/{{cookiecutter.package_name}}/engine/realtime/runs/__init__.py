"""Runs: jobs that continue when the client has left, and whose events any client can follow.

* `runs`: starts, finds and stops runs; `responses`: sends one to a client; `readers`: the formats.
* `router`: `POST` and `PUT /runs/{name}`, `GET /runs/{id}/events`, `POST /runs/{id}/stop`.
"""
