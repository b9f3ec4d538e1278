-- Who may write, and what was written last: one row. Every writing transaction on MariaDB/MySQL begins by changing it:
-- that lets one in at a time, refuses a program that another has taken the place of, and tells afterwards, when the
-- answer to a COMMIT was lost, whether it was done.
CREATE TABLE writer (
    name VARCHAR(32) NOT NULL PRIMARY KEY,
    owner VARCHAR(64) NOT NULL,
    transaction_id VARCHAR(64) NOT NULL
);
INSERT INTO writer (name, owner, transaction_id) VALUES ('writer', '', '');
