"""The call shapes of published systems over the parts of this library: change the import, keep the program.

Blocking calls over local checkpoints, for scripts and notebooks. Services use the parts, which are asynchronous and
shared between requests.
"""
