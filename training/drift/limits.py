"""When a difference is drift. Apart from the verdict, so that the settings can hold it without NumPy."""

import msgspec


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a difference is drift, and when drift or poor quality is reason enough to train."""

    significance: float = 0.01
    """Largest Benjamini-Hochberg adjusted p-value over all fields of a window."""
    minimum_effect: float = 0.1
    """Smallest effect (KS distance, total variation distance) that counts as drift."""
    minimum_records: int = 50
    """A window with fewer records is not judged."""
    unknown_share: float = 0.01
    """Share of unknown categories in a field, beyond that of the reference, that counts as drift."""
    outlier_margin: float = 0.05
    """By how much the outlier rate may differ from that of the reference."""
    drift_windows: int = 2
    """Judged windows in a row in which the same field drifts before drift is confirmed."""
    minimum_live_auc: float = 0.65
    """A live AUC whose whole 95% interval is below this starts a training."""
    new_labels: int = 500
    """New outcomes that are reason enough to train."""
    unread_share: float = 0.05
    """Share of the outcomes feed (rows, or files), of the export's files, or of the records without their other half,
    that may be lost before an alert is sent."""
    one_key_share: float = 0.5
    """An alert is sent where more of the champion's records than this are about one key: only one of them counts."""
    feed_days: int = 45
    """An alert is sent where the outcomes feed, which has brought something before, has brought nothing for so long."""
    pause_days: int = 7
    """After a retraining was started, drift and quality start no other for so long: it is on its way to the gate."""
