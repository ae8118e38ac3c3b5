"""Many runs of a training command, side by side: one table, one figure, and nothing lost if it is stopped.

python -m issref.sweep --strength 1e-3 3e-3 --seed 0 1      four runs; every other setting as in train_ptb
python -m issref.sweep --strength auto:8                    eight strengths over the useful range, and dense
python -m issref.sweep --strength 3e-3,4e-3 5e-3            commas part the numbers of one value, of layers here
python -m issref.sweep --strength auto:8 --path             each strength starts from the model of the last one
python -m issref.sweep --strength auto:8 --cluster ADDRESS  on the workers of a Dask scheduler
python -m issref.sweep --command squad --strength auto:8    the same of train_squad, and of its settings
"""
