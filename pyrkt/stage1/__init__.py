"""stage1: the static C program that carries a plan out, the step table both languages share, and its launcher."""
