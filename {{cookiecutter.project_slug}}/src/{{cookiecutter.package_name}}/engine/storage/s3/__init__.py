"""The store of a bucket: files in S3-compatible object storage, for one or several processes.

* `store`: S3Storage. Its parts are `pool` (the client), `writer` (parts on their way, with `body`),
  `reading` (ranges of objects), `catalogue` (the records) and `sweep` (the rest of dead processes).
* `move`: the command `serve move FROM TO`, which copies a store.
* `partials`: unfinished uploads.
"""
