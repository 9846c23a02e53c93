"""Earful's contract with the outside: topics, events, audio formats and the producers.

`stream.events` holds every event and its parser, `stream.topics` the names, `stream.audio` the codecs,
`stream.producers` the public producers. Nothing here imports another part of Earful but `errors`.
"""
