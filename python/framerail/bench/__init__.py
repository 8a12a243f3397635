"""Compares the speed of video readers: ``python -m framerail.bench readers CLIP``.

Every installed reader does the same work through one interface (:mod:`.adapter`), in a separate process, in rounds that
alternate. Each is also asked whether its frames are the right ones. The modules import one another by relative names only,
so that a worker process for another reader never loads framerail.
"""
