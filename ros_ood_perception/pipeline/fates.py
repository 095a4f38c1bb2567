"""How a camera's frame can end. The node and the replay count frames under these names."""

from __future__ import annotations

LOST_IN_TRANSPORT = "lost_in_transport"
"""Sent but never received: a gap in the publisher's numbering."""
REPLACED_UNREAD = "replaced_unread"
"""A newer frame came before inference was free."""
TOO_OLD = "too_old"
"""Older than `max_frame_age_ms` when its turn came."""
MALFORMED = "malformed"
"""Not the image that the message declares, or of a size that the engine does not take."""
FAILED = "failed"
"""Inference or publishing failed."""
PUBLISHED = "published"
"""Its results were published, or written by a replay."""
LEFT_OUT = "left_out"
"""Skipped on request (`--every` of a replay)."""

RECEIVED_FATES = (REPLACED_UNREAD, TOO_OLD, MALFORMED, FAILED, PUBLISHED)
"""Fates of a frame that the node received."""
SENT_FATES = (LOST_IN_TRANSPORT, *RECEIVED_FATES)
"""Fates of a frame that was sent to the node."""
REPLAYED_FATES = (PUBLISHED, MALFORMED, FAILED)
"""Fates of a frame that a replay used."""
