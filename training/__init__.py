"""How a model bundle comes to be: data, training, export, evaluation. Nothing on the vehicle imports this."""
