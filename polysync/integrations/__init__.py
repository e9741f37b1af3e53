"""polysync as an extension of frameworks; each module needs the extra of its name."""
