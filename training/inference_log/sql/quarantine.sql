-- Lines of a night that could not be read: where they are in the export, and why.
SELECT b.blob, q.byte_offset, q.reason
FROM (
  SELECT file_no, byte_offset, reason FROM lines_read WHERE kind = 'quarantined'
  UNION ALL
  SELECT file_no, byte_offset, reason FROM unreadable
) AS q
JOIN blobs AS b ON b.file_no = q.file_no
