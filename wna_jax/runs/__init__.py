"""What any long job needs: user errors, progress, saved states, whole files, processes, and functions as values."""
