"""Compare an LSTM before and after pruning: which units were removed, and is it the same function?"""
