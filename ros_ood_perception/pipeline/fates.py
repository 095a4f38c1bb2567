"""How a camera's frame can end. The node and the replay count frames under these names."""

from __future__ import annotations

LOST_IN_TRANSPORT = "lost_in_transport"
"""Sent but never received: reported as lost by the middleware, or missing in the publisher's numbering."""
REPLACED_UNREAD = "replaced_unread"
"""A newer frame came before inference was free."""
TOO_OLD = "too_old"
"""Older than `max_frame_age_ms` when its turn came."""
MALFORMED = "malformed"
"""Not the image that the message declares, or of a size that the engine does not take."""
FAILED = "failed"
"""Inference or publishing failed."""
ASLEEP = "asleep"
"""Not used: no output had a subscriber, and `sleep_without_subscribers` is set."""
COMPUTED = "computed"
"""Its results were computed, and no message of them was published: no output had a subscriber, or none that had one
could be made."""
PUBLISHED = "published"
"""A message of its results was published, or written by a replay."""
LEFT_OUT = "left_out"
"""Skipped on request (`--every` of a replay)."""

RECEIVED_FATES = (REPLACED_UNREAD, TOO_OLD, MALFORMED, FAILED, ASLEEP, COMPUTED, PUBLISHED)
"""Fates of a frame that the node received."""
SENT_FATES = (LOST_IN_TRANSPORT, *RECEIVED_FATES)
"""Fates of a frame that was sent to the node."""
GOOD_FATES = (COMPUTED, PUBLISHED)
"""Fates of a frame whose results were computed."""
REPLAYED_FATES = (PUBLISHED, MALFORMED, FAILED)
"""Fates of a frame that a replay used."""
