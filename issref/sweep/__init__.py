"""Many runs of a training command, several at a time: one table, one figure, resumable at any moment.

python -m issref.sweep --strength 1e-3 3e-3 --seed 0 1      four runs; all other settings as in train_ptb
python -m issref.sweep --strength auto:8                    eight strengths over the useful range, one dense run
python -m issref.sweep --strength 3e-3,4e-3 5e-3            commas separate the numbers of one value
python -m issref.sweep --strength auto:8 --path             each strength starts from the model of the one below
python -m issref.sweep --strength auto:8 --cluster ADDRESS  on the workers of a Dask scheduler
python -m issref.sweep --command squad --strength auto:8    the same for train_squad and its settings
"""
