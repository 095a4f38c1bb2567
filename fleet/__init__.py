"""Many recordings on Ray: replayed into tables, searched, compared. Of the checkout, not of the vehicle."""
