"""What is computed once: in a process, and in a `memory` folder."""
