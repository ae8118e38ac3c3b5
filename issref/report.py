def draw_run(*a): pass
