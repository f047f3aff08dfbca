DROP TABLE room_users;
