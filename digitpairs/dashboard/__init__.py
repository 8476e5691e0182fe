"""What TensorBoard shows of a sweep: scalars and HPARAMS of each run, means, pictures and texts.

The modules write event files and know nothing of training. `pictures` knows nothing of TensorBoard:
the analysis page shows the same pictures.
"""
