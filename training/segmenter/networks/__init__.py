"""Networks of `transformers` in a form that is trained and exported."""
