"""What the method has done besides accuracy: how answers changed, how good the teacher was, what critiques explain and what stayed."""
