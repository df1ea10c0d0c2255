-- Some records of a list, in the order of a hash of what they are about; those with a high hash are left out.
SELECT {columns}
FROM listed_rows
WHERE SUBSTR({mark}, 1, 8) < '{below}'
ORDER BY {mark}, {columns}
