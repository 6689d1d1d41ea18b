"""Several attempts at a problem become one trusted answer.

`answer_clusters` groups the attempts by the value of their final answers, `aggregate` makes one score of a scorer's
step scores, `choose` has the rules that pick an attempt, `early_stop` says when more attempts cannot or will hardly
change the pick, `budget` what may be spent, and `anytime` puts these together. All are pure Python on plain data.
"""
