-- A restart must not make a node dial dead peers afresh. Rows from before have neither failed nor to wait.
ALTER TABLE peers ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;   -- failed attempts in a row
ALTER TABLE peers ADD COLUMN wait_ms INTEGER NOT NULL DEFAULT 0;    -- after updated_at: not dialled by itself before
