"""From pixels to rows: image encoders by name, from files and libraries, and the features they give."""
