"""What TensorBoard shows of a sweep: scalars and HPARAMS of each run, means, pictures and texts.

The modules write event files and know nothing of training. Steps are epochs, counted from 0.
"""

from digitpairs.dashboard.closing import write_closing
from digitpairs.dashboard.events import EventFile, EventsLogger, tag_of
from digitpairs.dashboard.means import MEAN, MeanCurves

__all__ = ["MEAN", "EventFile", "EventsLogger", "MeanCurves", "tag_of", "write_closing"]
